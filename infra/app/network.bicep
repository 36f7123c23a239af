// Optional: a virtual network for the app, and private endpoints for storage and the Azure OpenAI accounts.
param name string
param location string
param tags object
param storageAccountName string
param openAiAccountNames array

var storageServices = ['blob', 'table']
var zoneNames = [
  'privatelink.blob.${environment().suffixes.storage}'
  'privatelink.table.${environment().suffixes.storage}'
  'privatelink.openai.azure.com'
]

resource account 'Microsoft.Storage/storageAccounts@2025-01-01' existing = {
  name: storageAccountName
}

resource vnet 'Microsoft.Network/virtualNetworks@2024-07-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: ['10.0.0.0/16'] }
    subnets: [
      {
        name: 'app'
        properties: {
          addressPrefix: '10.0.1.0/24'
          delegations: [
            { name: 'flex', properties: { serviceName: 'Microsoft.App/environments' } }
          ]
        }
      }
      {
        name: 'private-endpoints'
        properties: { addressPrefix: '10.0.2.0/24' }
      }
    ]
  }
}

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [for zone in zoneNames: {
  name: zone
  location: 'global'
  tags: tags
}]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [for (zone, i) in zoneNames: {
  parent: zones[i]
  name: name
  location: 'global'
  tags: tags
  properties: {
    registrationEnabled: false
    virtualNetwork: { id: vnet.id }
  }
}]

module storageEndpoints 'private-endpoint.bicep' = [for (service, i) in storageServices: {
  name: 'pe-${service}'
  params: {
    name: 'pe-${service}-${name}'
    location: location
    tags: tags
    subnetId: '${vnet.id}/subnets/private-endpoints'
    targetId: account.id
    groupId: service
    zoneId: zones[i].id
  }
  dependsOn: [
    links
  ]
}]

module openAiEndpoints 'private-endpoint.bicep' = [for (accountName, i) in openAiAccountNames: {
  name: 'pe-openai-${i}'
  params: {
    name: 'pe-${accountName}'
    location: location
    tags: tags
    subnetId: '${vnet.id}/subnets/private-endpoints'
    targetId: resourceId('Microsoft.CognitiveServices/accounts', accountName)
    groupId: 'account'
    zoneId: zones[2].id
  }
  dependsOn: [
    links
  ]
}]

output appSubnetId string = '${vnet.id}/subnets/app'
