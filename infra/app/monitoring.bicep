// Logs with a daily limit, written without a key, and a workbook that shows them.
import { tagSet } from 'types.bicep'

param workspaceName string
param componentName string
param location string
param tags tagSet
param dailyGigabytes int

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' = {
  name: workspaceName
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: 30
    workspaceCapping: { dailyQuotaGb: dailyGigabytes }
  }
}

resource component 'Microsoft.Insights/components@2020-02-02' = {
  name: componentName
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    DisableLocalAuth: true
  }
}

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(component.id, 'workbook')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Event proxy'
    category: 'workbook'
    sourceId: component.id
    serializedData: replace(loadTextContent('../queries/workbook.json'), 'COMPONENT_ID', component.id)
  }
}
