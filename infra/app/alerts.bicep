// Mails about what needs a person. docs/operations.md says what to do about each.
import { tagSet } from 'types.bicep'

param location string
param tags tagSet
param email string
param workspaceName string
param componentName string
param dailyGigabytes int

@description('Call the app from three regions every five minutes.')
param availabilityTest bool
param appUrl string

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' existing = {
  name: workspaceName
}

resource component 'Microsoft.Insights/components@2020-02-02' existing = {
  name: componentName
}

resource mail 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-${componentName}'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'event-proxy'
    enabled: true
    emailReceivers: [{ name: 'organiser', emailAddress: email, useCommonAlertSchema: true }]
  }
}

// The queries of the calls return a row only if something is wrong.
var rules = [
  {
    name: 'failed-calls'
    title: 'Event proxy: more than 5 % of the calls fail'
    description: 'Of the calls of the last five minutes, more than 5 % failed at the model or in the proxy. Run `manage.py deployments list` to see which deployment fails. If it is busy (429), raise its capacity or add a deployment in another region. If it fails, disable it.'
    query: loadTextContent('../queries/failed-calls.kql')
    scope: component.id
    severity: 1
  }
  {
    name: 'refused-by-deployment'
    title: 'Event proxy: a deployment refuses the proxy'
    description: 'A deployment refuses the role, the key or the name that the proxy uses (401, 403, 404). Its calls go to other deployments, if there are any. Assign its role to the app (docs/security.md), or correct the deployment with `manage.py deployments update`.'
    query: loadTextContent('../queries/refused-by-deployment.kql')
    scope: component.id
    severity: 1
  }
  {
    name: 'tables-unavailable'
    title: 'Event proxy: the tables do not respond'
    description: 'The proxy cannot read or write its tables, so new attendees get 503. See Service Health and Resource Health of the storage account in the Azure portal. If its firewall or roles have changed, run `azd provision`.'
    query: loadTextContent('../queries/tables-unavailable.kql')
    scope: component.id
    severity: 1
  }
]

resource alerts 'Microsoft.Insights/scheduledQueryRules@2026-03-01' = [
  for rule in rules: {
    name: rule.name
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: rule.title
      description: rule.description
      severity: rule.severity
      enabled: true
      evaluationFrequency: 'PT5M'
      windowSize: 'PT5M'
      scopes: [rule.scope]
      criteria: {
        allOf: [
          { query: rule.query, timeAggregation: 'Count', operator: 'GreaterThan', threshold: 0 }
        ]
      }
      autoMitigate: true
      // The tables of a new workspace do not exist before their first row.
      skipQueryValidation: true
      actions: { actionGroups: [mail.id] }
    }
  }
]

resource logVolume 'Microsoft.Insights/scheduledQueryRules@2026-03-01' = {
  name: 'log-volume'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Event proxy: the logs are near their daily limit'
    description: 'In the last 24 hours, the logs used 80 % of LOG_DAILY_GB. At 100 %, Azure drops all logs until the next day, and no other alert works. Run `azd env set LOG_DAILY_GB` with a higher number, and `azd provision`.'
    severity: 2
    enabled: true
    evaluationFrequency: 'PT1H'
    windowSize: 'P1D'
    scopes: [workspace.id]
    criteria: {
      allOf: [
        {
          query: loadTextContent('../queries/log-volume.kql')
          metricMeasureColumn: 'megabytes'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: dailyGigabytes * 800
        }
      ]
    }
    autoMitigate: true
    skipQueryValidation: true
    actions: { actionGroups: [mail.id] }
  }
}

resource availability 'Microsoft.Insights/webtests@2022-06-15' = if (availabilityTest) {
  name: 'availability-${componentName}'
  location: location
  // Application Insights finds its tests by this tag.
  tags: union(tags, { 'hidden-link:${component.id}': 'Resource' })
  kind: 'standard'
  properties: {
    SyntheticMonitorId: 'availability-${componentName}'
    Name: 'Event proxy: GET /healthz'
    Enabled: true
    Kind: 'standard'
    Frequency: 300
    Timeout: 30
    RetryEnabled: true
    Locations: [{ Id: 'emea-nl-ams-azr' }, { Id: 'us-va-ash-azr' }, { Id: 'apac-sg-sin-azr' }]
    Request: { RequestUrl: '${appUrl}/healthz', HttpVerb: 'GET' }
    ValidationRules: { ExpectedHttpStatusCode: 200, SSLCheck: true, SSLCertRemainingLifetimeCheck: 7 }
  }
}

resource unavailable 'Microsoft.Insights/metricAlerts@2026-01-01' = if (availabilityTest) {
  name: 'unavailable'
  location: 'global'
  tags: tags
  properties: {
    description: 'Two of three regions get no response from the app. See its state and its logs in the Azure portal. If a deployment caused it, go back: `git checkout TAG`, `azd deploy`.'
    severity: 0
    enabled: true
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    scopes: [availability.id, component.id]
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.WebtestLocationAvailabilityCriteria'
      webTestId: availability.id
      componentId: component.id
      failedLocationCount: 2
    }
    autoMitigate: true
    actions: [{ actionGroupId: mail.id }]
  }
}
